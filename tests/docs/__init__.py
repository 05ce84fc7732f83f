"""The documentation: its code runs, its references are the code's, its links lead somewhere."""
