export { type ContainerOptions, containerGuard } from './guard.ts'
