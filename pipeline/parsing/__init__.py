"""Turns the content of documents into text: one file for each kind of content."""

from pipeline.parsing.parser import Parser
from pipeline.parsing.settings import CsvSettings, JsonLinesSettings, ParsingSettings

__all__ = ("CsvSettings", "JsonLinesSettings", "Parser", "ParsingSettings")
