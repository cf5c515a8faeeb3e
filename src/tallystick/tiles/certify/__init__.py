"""Certificates: what no change within eps can turn, by proof instead of by trying."""
