"""Pages for people: what a community's run looks like, as HTML that needs nothing but a browser."""
