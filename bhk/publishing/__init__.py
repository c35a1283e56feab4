"""What a repository on the Hub holds, and putting it there: layout, model card, push and pull."""
