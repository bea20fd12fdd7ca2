import { freePorts } from '../services/process.ts'

/** A port on which nothing listens, and which no outgoing connection is given. */
export function freePort(): Promise<number> {
  return freePorts()
}
