"""The `horo` command line: administers and explains everything. Works on the same database and files as the services."""
