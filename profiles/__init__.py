"""Profiles that ship with Tunedeck, as package data."""
