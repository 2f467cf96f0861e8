"""Opens a bundle in other engines and compares their answers with its golden vectors."""
