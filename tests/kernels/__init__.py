"""Tests of the bottom floor."""
