// Replace this file. build.py fills in both constants: a digest of the folder's contents, and the paths of its files.
const VERSION = "{version}";
const FILES = ["{files}"];
