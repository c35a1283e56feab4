"""The .bhk file: its header, the rules of the format, reading and writing. Knows neither models nor mathematics."""
