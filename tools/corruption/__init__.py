"""What readers do with damaged and hostile files: attacks, the readers that are attacked, and a watch over both."""
