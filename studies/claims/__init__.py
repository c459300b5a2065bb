"""The claims of the documents: each with the runs that confirm or refute it."""
