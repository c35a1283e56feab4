"""From a picture and prompts to masks, by the predictors of the packages the models come from."""
