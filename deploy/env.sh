#!/bin/sh
# Makes .env of .env.example, with a random value of 128 bits for every name that has none.
# An .env that exists is never touched: Keycloak remembers the secrets of its first start.
set -eu
cd "$(dirname "$0")/.."

if [ -e .env ]; then
	echo ".env is there already and stays as it is"
	exit 0
fi
umask 077
trap 'rm -f .env.new' EXIT
while IFS= read -r line; do
	case $line in
	[A-Z]*=) printf '%s%s\n' "$line" "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" ;;
	*) printf '%s\n' "$line" ;;
	esac
done <.env.example >.env.new
# A link, unlike a rename, fails when somebody else was faster.
ln .env.new .env
echo "made .env, readable by you only"
