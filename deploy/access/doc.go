// Package access says who may log in to the hosts: it edits authorized_keys as bytes, brings keys to a
// fleet and proves that they let in, lists and revokes them, and replaces a key on every host without a
// moment in which none works.
package access
