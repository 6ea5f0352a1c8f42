"""What `backstop dns` looks at: the records that a domain publishes, as the world sees them.

Nothing is changed, and nothing is asked but DNS. checkdmarc, which does the same and more, is not used: it
brings an HTTP client and a dozen libraries more, and what it parses is parsed here already, by the code that
judges the mail of others.
"""
