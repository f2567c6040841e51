"""What dbwatch tells, and where: each output receives records and callables, and knows nothing of the hooks."""
