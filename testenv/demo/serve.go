package main

import (
	"context"

	"phantomtoken/testenv"
)

// serve keeps the stack up until ctx ends and shows what passes behind the gateway.
func serve(ctx context.Context, s *testenv.Stack, out *printer) error {
	out.line("%s   %s", out.paint(bold, "MCP URL"), s.MCPURL)
	out.line("%s   %s", out.paint(bold, "Advisor"), s.AdvisorURL)
	out.line("\n%s", out.paint(bold, "Users"))
	for _, u := range s.Users {
		out.line("  %-24s password %s   region %s", u.Name, u.Password, u.Region)
	}
	out.line("\n%s", out.paint(bold, "Clients"))
	out.line("  MCP Inspector   npx @modelcontextprotocol/inspector    then transport Streamable HTTP, URL as above, Connect")
	out.line("  Claude Code     claude mcp add --transport http stocks %s    then /mcp, Authenticate", s.MCPURL)
	out.line("  any other       give it the URL; it finds the rest, opens a browser, and one of the users signs in")
	out.line("  curl            curl -i -X POST %s", s.MCPURL)
	out.line("\n%s", out.paint(bold, "Places"))
	out.line("  authorization server   %s", s.AuthServer.Issuer())
	out.line("  phantom token issuer   %s", s.PhantomIssuer)
	out.line("  sidecar                %s", s.SidecarURL)
	out.line("  egress proxy           %s    (for the MCP server)", s.EgressURL)
	out.line("  MCP server             %s    (behind the gateway)", s.MCPServerURL)
	out.line("  stocks API             %s", s.APIURL)
	if s.ControlURL != "" {
		out.line("\n%s", out.paint(bold, "Control of the authorization server"))
		json := "-H 'Content-Type: application/json'"
		out.line("  down            curl -X POST %s/trouble %s -d '{\"down\":true}'", s.ControlURL, json)
		out.line("  well again      curl -X DELETE %s/trouble", s.ControlURL)
		out.line("  a token         curl -X POST %s/tokens %s -d '%s'", s.ControlURL, json,
			`{"scope":"stocks/read","resource":"`+s.MCPURL+`"}`)
		out.line("  revoke one      curl -X POST %s/revoke %s -d '{\"token\":\"...\"}'", s.ControlURL, json)
		out.line("  introspections  curl %s/introspections", s.ControlURL)
	}
	out.line("\nCtrl-C ends it. What passes behind the gateway:")
	<-ctx.Done()
	if err := s.Close(); err != nil {
		return err
	}
	out.line("\nstopped")
	return nil
}
