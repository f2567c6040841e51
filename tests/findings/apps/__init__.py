"""One module for each finding: builders of a faulty app, the guilty line marked, and of its corrected twin."""
