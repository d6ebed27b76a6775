// Package flight caches things that take a call to make and must not be made twice at
// once: tokens of another service, above all.
//
// What [Cache.Do] promises:
//
//   - One call for all who wait for the same key. It is not cancelled with the caller that
//     started it, ends with a timeout of its own, and a panic in it is an error.
//   - No value is served after its end, compared with the clock each time.
//   - A definite refusal is remembered for as short as the fetch says, on a share of the
//     cache that cannot push out values in use. Trouble is never remembered.
//   - Entries and bytes are bounded. Who was not asked for since the last look goes first.
//   - Where the cache is told to, a value that is asked for near its end is replaced by one
//     call behind the callers. Nobody waits for it. Trouble leaves the value as it is; a
//     refusal takes its place, because whoever gave the value has taken it back. A value that
//     nobody asks for just ends.
//
// Keys are hashes: whoever uses the cache puts everything into them that decides the value.
package flight
