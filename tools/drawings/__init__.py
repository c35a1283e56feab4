"""The pictures of the documents, in docs/images/."""
