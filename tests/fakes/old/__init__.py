"""What older MLflows left behind: databases, and folders of files."""
