"""Makers of the generated parts of format_spec/: tables, schema, test vectors."""
