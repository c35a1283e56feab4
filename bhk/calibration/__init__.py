"""Running a model on samples before it is coded, so that errors go where they change its outputs least."""
