"""The .bhk file: header, rules, reading, writing. Knows no models and no mathematics."""
