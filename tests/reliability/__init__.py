"""Never break the host: faults, races, hostile input, and what others test, with dbwatch and without."""
