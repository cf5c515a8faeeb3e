"""The pages, grouped by the nouns they are about; each is a function of a view and a request."""
