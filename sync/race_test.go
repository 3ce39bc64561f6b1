//go:build race

package filesync

// raceFactor is how much more memory everything takes with the race detector.
const raceFactor = 6
