"""`backstop setup`: fits the mail server to Backstop: a diff to read, a change with a backup, its undoing."""
