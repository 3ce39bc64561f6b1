//go:build !race

package filesync

const raceFactor = 1
