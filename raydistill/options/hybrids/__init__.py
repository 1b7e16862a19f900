"""Options of the methods that join two papers, a file each."""
