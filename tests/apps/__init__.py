"""Apps that use their database as they should: nothing in them may be counted as a mistake, or found to be one."""
