"""Fuzzing of all readers of files from strangers, guided by coverage (atheris), with structures kept and hashes set right."""
