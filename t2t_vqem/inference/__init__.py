"""Runs trained models on lines, files and splits of data sets."""
