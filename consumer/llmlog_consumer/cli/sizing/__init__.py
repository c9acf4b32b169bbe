"""Owns `pipeline size`: what a load needs, from figures that were measured."""
