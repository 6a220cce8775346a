"""Calls between processes of one machine, over a Unix socket: plain data, one call at a time a
connection.
"""
