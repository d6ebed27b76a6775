package kongtest

import (
	"fmt"
	"sync"
	"time"
)

// rateLimits is Kong's plugin rate-limiting with local counters of minutes, which all
// workers share. It sends no headers.
type rateLimits struct {
	mu     sync.Mutex
	counts map[string]int
}

func newRateLimits() *rateLimits { return &rateLimits{counts: map[string]int{}} }

func (l *rateLimits) access(x *exchange, config map[string]any) error {
	limit, _ := config["minute"].(float64)
	minute := x.g.cfg.Now().Truncate(time.Minute).Unix()
	key := fmt.Sprint(config["route_id"], config["service_id"], x.counted(config["limit_by"]), minute)
	l.mu.Lock()
	defer l.mu.Unlock()
	if float64(l.counts[key]) >= limit {
		x.delayed = x.errorResponse(429, "API rate limit exceeded")
		return nil
	}
	l.counts[key]++
	return nil
}

// counted is whom requests are counted for: without a consumer its credential, without
// either the address.
func (x *exchange) counted(by any) string {
	switch {
	case by == "consumer" && x.consumer != nil:
		return x.consumer.GetId()
	case by != "ip" && x.credential != nil:
		return x.credential.GetId()
	default:
		return x.remote.ip
	}
}
