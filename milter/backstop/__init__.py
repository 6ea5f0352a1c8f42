"""Backstop: a milter that ends non-delivery-report backscatter, received and sent."""

__version__ = "0.1.0"
