import { homedir } from 'node:os'

/** The folder of the user's own files; `/` for a user without HOME and without an entry in /etc/passwd, as containers may have. */
export function homeFolder(): string {
  try {
    return homedir()
  } catch {
    return '/'
  }
}
