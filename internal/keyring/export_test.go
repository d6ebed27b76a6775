package keyring

import "time"

// ParseFileName and FileName are the two directions between a start and the name of a file.
func ParseFileName(name string) (time.Time, error) { return parseFileName(name) }
func FileName(start time.Time) string              { return fileName(start) }

// Creations is the heart of a rotation, without the files.
func (s Schedule) Creations(starts []time.Time, now time.Time) (due []time.Time, next time.Time) {
	return s.creations(starts, now)
}
