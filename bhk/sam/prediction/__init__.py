"""Predicting masks for a picture and prompts, with the predictors of the models' own packages."""
