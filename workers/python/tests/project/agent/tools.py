"""Imported relatively by graph.py."""

ANSWER = 42
