"""What users read, and what writes the parts of it that are taken from the code."""
