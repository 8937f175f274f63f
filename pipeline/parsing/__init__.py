"""Turns the content of documents into text: one file for each kind of content."""

from pipeline.parsing.parser import Parser

__all__ = ("Parser",)
