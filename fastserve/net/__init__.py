"""Bytes on sockets: connections, their deadlines and the accepting of new ones."""
