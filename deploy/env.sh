#!/bin/sh
# Makes .env of .env.example, with a random value of 128 bits for every name that has none.
# What an .env has is never touched: Keycloak remembers the secrets of its first start. Names
# that a later version needs are added.
set -eu
cd "$(dirname "$0")/.."

umask 077
trap 'rm -f .env.new' EXIT
[ -e .env ] && cat .env >.env.new || : >.env.new
added=
while IFS= read -r line; do
	case $line in
	[A-Z]*=)
		grep -q "^$line" .env.new && continue
		line=$line$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
		added="$added ${line%%=*}"
		;;
	*) [ -e .env ] && continue ;;
	esac
	printf '%s\n' "$line" >>.env.new
done <.env.example
if [ ! -e .env ]; then
	# A link, unlike a rename, fails when somebody else was faster.
	ln .env.new .env
	echo "made .env, readable by you only"
elif [ -n "$added" ]; then
	mv .env.new .env
	echo "added to .env:$added"
else
	echo ".env is there already and stays as it is"
fi
