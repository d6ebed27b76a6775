package doctor

import (
	"context"
	"fmt"
	"time"
)

// maxSkew is the plugin's own leeway (token.leeway_seconds) when nothing else is said.
const maxSkew = 30 * time.Second

// clocks compares the Date fields of all answers. The gateway and the authorization server
// must agree; that this computer's clock is wrong is no fault of theirs.
func (v *visit) clocks(_ context.Context, s *Step) {
	var gateway, server *dated
	for i := range v.dates {
		switch d := &v.dates[i]; {
		case d.gateway && gateway == nil:
			gateway = d
		case !d.gateway && server == nil:
			server = d
		}
	}
	if gateway == nil && server == nil {
		s.skip("no answer had a Date")
		return
	}
	const mend = "synchronize the clocks (NTP): tokens look expired, or not valid yet"
	if gateway != nil && server != nil {
		apart := gateway.ahead() - server.ahead()
		s.Seen = "gateway and authorization server agree"
		if apart.Abs() > 2*time.Second { // each Date is rounded
			s.Seen = fmt.Sprintf("gateway and authorization server are %s apart", apart.Abs())
		}
		if apart.Abs() > maxSkew {
			s.fault("IN-10", fmt.Sprintf("%s is %s, %s is %s", gateway.whose, gateway.described(), server.whose, server.described()), "clocks at most 30s apart", mend)
			return
		}
		if gateway.ahead().Abs() > maxSkew {
			s.note("this computer's clock differs from theirs: by it, %s is %s", gateway.whose, gateway.described())
		}
		return
	}
	one := gateway
	if one == nil {
		one = server
	}
	s.Seen = one.whose + " is " + one.described()
	if one.ahead().Abs() > maxSkew {
		s.fault("IN-10", one.whose+" is "+one.described()+" by the clock of this computer", "clocks at most 30s apart", mend)
	}
}

// ahead is how far the clock is before this computer's. A Date has whole seconds, so the
// moment was half of one later on average.
func (d *dated) ahead() time.Duration {
	return d.said.Add(time.Second / 2).Sub(d.was).Round(time.Second)
}

func (d *dated) described() string {
	switch ahead := d.ahead(); {
	case ahead > time.Second:
		return ahead.String() + " fast"
	case ahead < -time.Second:
		return (-ahead).String() + " slow"
	}
	return "right"
}
