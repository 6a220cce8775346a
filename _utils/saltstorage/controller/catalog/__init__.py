"""The catalog: everything that speaks SQL."""
