"""Driving a trained model over lines, files and dataset splits."""
