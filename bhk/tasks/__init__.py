"""What users do with bhk, one task a module: the functions behind `import bhk` and the command line."""
