//go:build race

package filesync

// raceFactor is how much more memory everything takes with the race detector: 20 times was seen.
const raceFactor = 24
