"""Methods that join two papers, a file each."""
