"""Patterns of real applications and libraries, in small: what dbwatch met there once must not trouble it again."""
