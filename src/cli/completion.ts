import { type ExitCode, exitCode } from '../model/failure.ts'
import { out } from './io.ts'

// Each script hands the words so far to `cairn complete`, which answers a candidate a line, with a tab and a description
// where there is one; `:files` alone asks the shell for its own completion of file names.

const bash = `# bash completion for cairn
_cairn() {
  local line=\${COMP_LINE:0:COMP_POINT} words=() candidates=() candidate cur before
  # Of our own, because readline also splits at ":", "=" and "@".
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  cur=\${words[-1]}
  before=\${cur%"\${COMP_WORDS[COMP_CWORD]}"}
  mapfile -t candidates < <(cairn complete -- "\${words[@]:1}" 2> /dev/null)
  COMPREPLY=()
  if [[ \${candidates[0]} == :files ]]; then
    compopt -o filenames 2> /dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
    return
  fi
  for candidate in "\${candidates[@]}"; do
    candidate=\${candidate%%$'\\t'*}
    [[ $candidate == "$cur"* ]] && COMPREPLY+=("\${candidate#"$before"}")
  done
}
complete -F _cairn cairn
`

const zsh = `#compdef cairn
_cairn() {
  local -a candidates described
  local candidate
  candidates=("\${(@f)$(cairn complete -- "\${(@)words[2,CURRENT]}" 2> /dev/null)}")
  if [[ \${candidates[1]} == :files ]]; then
    _files
    return
  fi
  for candidate in $candidates; do
    described+=("\${\${candidate%%$'\\t'*}//:/\\\\:}:\${candidate#*$'\\t'}")
  done
  _describe -t cairn cairn described
}
if [ "$funcstack[1]" = _cairn ]; then _cairn "$@"; else compdef _cairn cairn; fi
`

const fish = `# fish completion for cairn
function __cairn_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l candidates (cairn complete -- $words[2..] 2> /dev/null)
  if test "$candidates[1]" = :files
    __fish_complete_path (commandline -ct)
  else
    printf '%s\\n' $candidates
  end
end
complete -c cairn -f -a '(__cairn_complete)'
`

const scripts = { bash, zsh, fish }

/** `cairn completion SHELL`. */
export async function run(shell: keyof typeof scripts): Promise<ExitCode> {
  await out(scripts[shell])
  return exitCode.ok
}
